import re

NUMBER = r'-?[\d.]+(?:e[-+]\d+)?'
LINE = (
    r'Epoch \[1/2\]\[4/8\]  eta: \d+:\d\d:\d\d  loss: N  square_loss: N  batch_mean: N  grad_norm: N  '
    r'temperature: 0\.07  teacher_momentum: 0\.99912  skipped_steps: 0  lr: 1\.000e-02  step_time: N s  '
    r'images_per_second: N  data_share: N%  memory: \d+ MB  skipped: \d+'
).replace('N', NUMBER)


def test_line_of_an_interval(tiny_runner, tmp_path):
    runner = tiny_runner()
    runner.train()
    (log,) = (tmp_path / 'run' / runner.timestamp).glob('*.log')
    lines = [line.split(' - INFO - ')[1] for line in log.read_text().splitlines() if 'Epoch [' in line]
    assert len(lines) == 4
    assert re.fullmatch(LINE, lines[0]), lines[0]


def test_rate_shown_is_the_base_rate_where_groups_differ(tiny_runner, tmp_path):
    runner = tiny_runner(**{'optim_wrapper.paramwise_cfg': {'custom_keys': {'layer': {'lr_mult': 0.5}}}})
    runner.train()
    (log,) = (tmp_path / 'run' / runner.timestamp).glob('*.log')
    assert 'lr: 1.000e-02' in next(line for line in log.read_text().splitlines() if '[1/2][4/8]' in line)
