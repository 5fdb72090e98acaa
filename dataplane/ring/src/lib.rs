//! Kernel I/O behind plain values: io_uring, epoll and a seeded simulator
