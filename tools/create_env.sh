#!/bin/sh
# Creates the Python environment of this repository with the versions of requirements/constraints.txt.
# Usage: [PYTHON=python3.11] [TORCH_INDEX=https://download.pytorch.org/whl/cpu] tools/create_env.sh FOLDER [EXTRA]
# TORCH_INDEX: where torch and torchvision come from, for builds without CUDA or for older drivers (docs/install.md).
set -eu
cd "$(dirname "$0")/.."
env=$1

# A path, not a name: uv does not see through the shims of version managers and would download a Python instead.
python=
for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
    python=$("$candidate" -c 'import sys; assert (3, 10) <= sys.version_info < (3, 14); print(sys.executable)' 2>/dev/null) && break
done
if [ -z "$python" ]; then
    echo "error: no Python 3.10 to 3.13 found (tried: ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10})." >&2
    echo "Install one, or name it: make PYTHON=/path/to/python3.11" >&2
    exit 1
fi

# uv installs in seconds what takes pip minutes. It goes into a folder of its own where the machine has none.
uv=$(command -v uv || true)
bootstrap=.cache/uv
if [ -z "$uv" ]; then
    [ -x "$bootstrap/bin/uv" ] || { "$python" -m venv "$bootstrap" && "$bootstrap/bin/python" -m pip install -q uv; } || true
    [ -x "$bootstrap/bin/uv" ] && uv=$bootstrap/bin/uv
fi

# Nothing may be compiled: onedl-mmcv builds its operators, for most of an hour, wherever its build sees torch. So the
# dependencies are built in isolation, as is the default, and only this package, which then has nothing to build, is not.
export MMCV_WITH_OPS=0
dependencies=$("$python" -c "
import runpy, sys
bounds = runpy.run_path('mmmaskclip/startup/dependencies.py')
print(*bounds['RUNTIME'], *(bounds['EXTRAS'][sys.argv[1]] if sys.argv[1] else ()))" "${2:-}")
references=$("$python" -c "
import runpy, sys
print(*runpy.run_path('mmmaskclip/startup/dependencies.py')['REFERENCES'] if sys.argv[1] == 'tests' else ())" "${2:-}")

install() {
    # First, so that it is there when the others ask for torch, of any build.
    if [ -n "${TORCH_INDEX:-}" ]; then
        "$@" --index-url "$TORCH_INDEX" $(sed -n '/^torch\(vision\)\{0,1\}==/p' requirements/constraints.txt) || return 1
    fi
    # Unquoted: one argument per dependency; none has a space.
    "$@" -c requirements/constraints.txt setuptools wheel $dependencies &&
        "$@" --no-deps --no-build-isolation $references -e .
}

with_uv() {
    [ -n "$uv" ] || return 1
    echo "Creating $env with $python and $uv ..."
    # Seeded, so that the pip commands of error messages and docs work in it.
    [ -x "$env/bin/python" ] || "$uv" venv -q --seed --no-python-downloads --python "$python" "$env" || return 1
    install "$uv" pip install --python "$env/bin/python"
}

with_pip() {
    echo "Creating $env with $python and pip ..."
    # Reads pip's settings, which uv does not: a machine whose package index is set there still gets its environment.
    "$python" -m venv --clear "$env" && install "$env/bin/python" -m pip install
}

with_uv || with_pip || {
    echo "error: could not create $env. The messages above say why; on Debian and Ubuntu venv needs: apt install python3-venv" >&2
    exit 1
}
