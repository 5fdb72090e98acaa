//! Header fields: well-known names as small numbers, and the map that stores fields in wire form.

mod id;
mod map;
pub(crate) mod token;

pub use id::HeaderId;
pub(crate) use map::Indexed;
pub use map::{HeaderMap, Iter};
pub use token::{is_token, is_valid_value};
