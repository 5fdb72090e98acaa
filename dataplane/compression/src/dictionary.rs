//! Which of several dictionaries a zstd frame was made with.

use std::sync::Arc;

use zstd::stream::raw::Decoder;
use zstd::zstd_safe::{get_dict_id_from_dict, get_dict_id_from_frame};

use crate::DecompressError;

/// Longest header of a frame (RFC 8878, section 3.1.1), which has the id of its dictionary.
pub(crate) const FRAME_HEADER_BYTES: usize = 18;

/// The engine for a frame that begins with `head`.
pub(crate) fn decoder_for(
    dictionaries: &[Arc<[u8]>],
    head: &[u8],
) -> Result<Decoder<'static>, DecompressError> {
    let Some(id) = get_dict_id_from_frame(head) else {
        return Decoder::new().map_err(|_| DecompressError::Malformed);
    };
    let found = dictionaries.iter().find(|dictionary| get_dict_id_from_dict(dictionary) == Some(id));
    let Some(dictionary) = found else { return Err(DecompressError::UnknownDictionary) };
    Decoder::with_dictionary(dictionary).map_err(|_| DecompressError::Malformed)
}
