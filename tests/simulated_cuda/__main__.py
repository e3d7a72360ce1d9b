"""The environment as a shell takes it."""

import shlex

from tests.simulated_cuda import environment

for name, value in environment().items():
    print(f"export {name}={shlex.quote(value)}")
