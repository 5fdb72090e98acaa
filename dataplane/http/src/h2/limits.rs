//! Every bound that nobody configures, with what happens beyond it.

/// Largest frame that we accept: SETTINGS_MAX_FRAME_SIZE stays at its initial value. Beyond: FRAME_SIZE_ERROR.
pub(super) const FRAME_BYTES_MAX: usize = 16_384;
