//! Protobuf to the data plane's model, every rejection with its field path
