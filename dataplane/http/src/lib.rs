//! Neutral HTTP heads and the sans-io HTTP/1.1 codec
