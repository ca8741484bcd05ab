"""Changing what there is: tasks that turn a sampling run from noise into one that starts from a person's own sample.

task.py        Run, and the role Task
known.py       Known: inpainting, outpainting, continuing; TimeTravel, which harmonises
start.py       FromClean: edits and variations; FromNoise: a state at the first time
observed.py    DDNM, PiGDM: linear inverse problems, with their operators
windows.py     Windows: states longer than the network's canvas
inversion.py   invert: the noise from which an ODE solver makes a given sample; slerp between noises
requests.py    what a person asks for: a file and some words, as tasks
"""
