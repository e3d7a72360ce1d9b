"""What the losses cost: loss and gradients of both sides in float32, beside bare products and what people use.

    python -m tests.benchmarks                    # everything: hours. What is measured already is kept
    python -m tests.benchmarks --list             # the points, and how long each is expected to take
    python -m tests.benchmarks --only 'one/*x128' --minutes 30
    python -m tests.benchmarks --largest --only '*/131072x*'
    python -m tests.benchmarks --short --to DIR   # under a minute: what the tests run
    python -m tests.benchmarks --render           # page and plots again from the figures, nothing measured

A point is part/loss/size: `one` thread, `two` threads, or peak `memory`. All implementations of a point run in one
child process, in turn, round by round; each memory figure comes from a child of its own. Figures go to
docs/results/performance/figures.json point by point, so a run that was cut off goes on where it was; remove that file
to begin afresh, say on a quieter machine.

What to install: the extra `bench` after PyTorch, then two packages whose dependencies would pull another PyTorch:

    pip install torch==2.13.0
    pip install -e '.[bench]'
    pip install --no-deps open-clip-torch==3.3.0 lightly==1.6.0

What isn't installed is left out, and the page says so.
"""
