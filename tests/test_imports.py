from pathlib import Path


def test_imports_run_downwards_and_in_no_circle():
    from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

    pyproject = Path(__file__).parents[1] / 'pyproject.toml'
    assert lint_imports(config_filename=str(pyproject), no_cache=True) == EXIT_STATUS_SUCCESS
