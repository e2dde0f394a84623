# What every dense tuning keeps. The teacher is the model that the run starts from: with a momentum of 1 it stays.
frozen = dict(frozen=True)
temperature = dict(_delete_=True, type='FixedTemperature')
preserve = dict(type='PreserveGlobal', weight=1.0)
