"""What pyproject.toml cannot say: the top-level folder conf/ is installed as the package `framework.conf`.

Installed under its own name, `conf` would collide with the conf/ of whoever uses Diffract.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["framework*", "modalities*", "experiments*"]), "framework.conf"],
    package_dir={"framework.conf": "conf"},
)
