"""What is measured of Diffract, how, and its last results with the machine that they came from; see README.md."""
