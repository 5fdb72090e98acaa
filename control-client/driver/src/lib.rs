//! The control thread: bootstrap files, DNS, admin server, log files, statistics
