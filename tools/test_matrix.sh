#!/bin/sh
# Runs the tests in environments of other versions: oldest and newest of every bound, other Pythons, other transformers.
# Usage: [TESTS="tests/test_cli ..."] tools/test_matrix.sh [ROW ...]     (make test-matrix; hours and gigabytes)
# Environments and logs are kept in .cache/matrix/ROW; one line a row is added to .cache/matrix/results.txt.
set -eu
cd "$(dirname "$0")/.."
export MMCV_WITH_OPS=0 PYTHONDONTWRITEBYTECODE=

# Row, Python, resolution (locked: the constraints of this repository), further requirement, versions that are not held.
rows='oldest 3.10 lowest-direct
python310 3.10 locked
python312 3.12 locked
python313 3.13 highest
newest 3.12 highest
transformers4 3.11 locked transformers>=4.57,<5 huggingface-hub|tokenizers|datasets|fsspec
transformers5 3.11 locked transformers>=5'

dependencies() {
    python3 -c "
import runpy
bounds = runpy.run_path('mmmaskclip/startup/dependencies.py')
print(*bounds['RUNTIME'], *bounds['TESTS'])"
}

references() {
    python3 -c "
import runpy
print(*runpy.run_path('mmmaskclip/startup/dependencies.py')['REFERENCES'])"
}

failed=0
for row in ${*:-$(echo "$rows" | cut -d' ' -f1)}; do
    line=$(echo "$rows" | grep "^$row ") || { echo "error: there is no row '$row'. Rows: $(echo "$rows" | cut -d' ' -f1 | xargs)" >&2; exit 2; }
    # shellcheck disable=SC2086
    set -- $line
    env=.cache/matrix/$row
    mkdir -p "$env"
    case $3 in
        # transformers 4 needs an older huggingface-hub than the one held, which needs an older datasets, and so on. With a
        # lower bound: uv would rather take transformers 0.1 than give up.
        locked) grep -vE "^(${5:--})==" requirements/constraints.txt >"$env/constraints.txt"; how="-c $env/constraints.txt" ;;
        *) how="--resolution $3" ;;
    esac
    if [ ! -e "$env/.installed" ]; then
        # Its path, because uv does not see through the shims of version managers; without one uv downloads a Python.
        python=$("python$2" -c 'import sys; print(sys.executable)' 2>/dev/null || echo "$2")
        uv venv -q --allow-existing --seed --python "$python" "$env"
        # Unquoted: lists of requirements, none of which has a space. The package itself by its path: its bounds are
        # what is tried here.
        uv pip install -q --python "$env/bin/python" $how 'setuptools>=77,<82' 'wheel>=0.40' $(dependencies) ${4:-}
        uv pip install -q --python "$env/bin/python" --no-deps $(references)
        touch "$env/.installed"
    fi
    start=$(date +%s)
    code=0
    PYTHONPATH="$PWD" "$env/bin/python" -m pytest ${TESTS:-tests} >"$env/log.txt" 2>&1 || code=$?
    [ "$code" -eq 0 ] || failed=1
    versions=$("$env/bin/python" -c "
import platform
from importlib.metadata import version
names = 'torch', 'onedl-mmengine', 'onedl-mmpretrain', 'numpy'
print(platform.python_version(), *(f'{name} {version(name)}' for name in names), sep=', ')")
    echo "$row | $versions | $(tail -n 1 "$env/log.txt") | exit $code | $(($(date +%s) - start)) s | $(date +%F)" | tee -a .cache/matrix/results.txt
done
exit "$failed"
