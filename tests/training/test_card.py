"""The card of a model folder says where it comes from, in the run's own words and numbers."""

from __future__ import annotations

from pathlib import Path

from framework.build import USER_CONFIG
from framework.training.run import train
from tests.toy import point_config


def test_the_card_tells_data_licence_training_and_limits(tmp_path: Path) -> None:
    config = point_config(tmp_path / "run", trainer__max_steps=5, trainer__val_check_interval=5)
    config |= {"licence": "CC-BY-4.0", "limits": "Nothing but points."}
    train(config, USER_CONFIG.plus("tests"))
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    for words in (
        "| licence of the weights | CC-BY-4.0 |",
        "`tests.toy.PointData`: size 96",
        "| samples seen | 40, in 5 steps |",
        "- Nothing but points.",
        "Neither prompts nor samples are filtered",
    ):
        assert words in card
    unsaid = point_config(tmp_path / "other", trainer__max_steps=5, trainer__val_check_interval=5)
    train(unsaid, USER_CONFIG.plus("tests"))
    assert "not said; ask whoever trained it" in (tmp_path / "other" / "model" / "README.md").read_text()
