import threading

from mmmaskclip.engine.hooks import checkpoint_writer


def test_slow_saves_go_to_a_thread_from_the_next_one_on(monkeypatch):
    now, threads, said = [0.0], [], []
    monkeypatch.setattr(checkpoint_writer.time, 'monotonic', lambda: now[0])
    monkeypatch.setattr(checkpoint_writer, 'print_log', lambda text, **_: said.append(text))

    def save(writer, begin, seconds):
        def write():
            threads.append(threading.current_thread() is not threading.main_thread())
            now[0] += seconds

        now[0] = begin
        writer.run(write, lambda: None)
        writer.wait()

    for choice, expected in ((None, [False, False, False, True]), (False, [False] * 4), (True, [True] * 4)):
        threads.clear()
        now[0] = 0.0
        writer = checkpoint_writer.CheckpointWriter(choice)
        writer.start_clock()
        save(writer, 50, 0.9)  # less than a second
        save(writer, 1000, 2)  # less than 1 % of the time since
        save(writer, 1100, 9)
        save(writer, 1200, 9)
        assert threads == expected
    assert len(said) == 1
    assert 'took 9.0 s, 98 s after the one before' in said[0]
