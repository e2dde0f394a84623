import subprocess
import sys

from ranks import free_port

from mmmaskclip.utils.exit_codes import HUNG, PEER_DIED, SAVED


def test_the_codes_differ_from_each_other_and_from_those_of_shells_and_signals():
    codes = {SAVED, HUNG, PEER_DIED}
    assert len(codes) == 3
    assert not codes & {0, 1, 2, *range(126, 256)}


def test_torchrun_ends_with_1_and_names_the_code_in_its_report(tmp_path):
    script = tmp_path / 'saved.py'
    script.write_text(f'raise SystemExit({SAVED})\n')
    launch = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node=1', f'--master-port={free_port()}']
    done = subprocess.run([*launch, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    # As docs/reliability.md tells whoever restarts runs.
    report = ' '.join(done.stderr.split())
    assert f'exitcode : {SAVED}' in report, done.stderr
