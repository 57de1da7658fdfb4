"""The commands, one file each: `command` in every file is what `tidemill NAME` runs."""
