"""The error of every solver on every grid at a few network evaluations, beside diffusers' schedulers.

beds.py      networks whose probability-flow ODE is solved exactly: what errors are measured on
packed.py    states of several components as one tensor, which is all that diffusers knows
together.py  several runs at once, which ask one network in one batch
ours.py      conf/solver x conf/grid
theirs.py    diffusers' deterministic schedulers with each of their spacings
fitted.py    steps that are found for a network: GITS, LD3, adaptive solvers
laws.py      stochastic solvers, ours and theirs: the error of the law that they draw from
tables.py    the table, the verdict and the plot
"""
