"""The cases that come with vlv: each module plans its rows and runs a turn of one."""
