//! One struct per core that owns every connection, buffer, timer, pool and counter
