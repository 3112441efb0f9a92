"""The folder that a training run leaves: its record, its events, its checkpoints, and who shares the work.

`folder` has the names of the files, `run_record` what the run was, `checkpoint` and `position` where it goes on,
`events` what it reports on the way, `processes` the devices and processes that train together.
"""
