"""Where files lie and how they are written: addresses, sets of files, work spread over processes."""
