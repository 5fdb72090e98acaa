//! What filters write about a stream while it runs, and who may read it.

use std::cell::{Ref, RefCell};

use crate::{FilterState, Metadata, StateObject};

/// What filters have written about one stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamNotes {
    /// Dynamic metadata.
    pub metadata: Metadata,
    /// Filter state with the life span of the stream.
    pub filter_state: FilterState,
}

/// The [`StreamNotes`] of a stream: nothing, and no memory, until the first is written. Filters write while templates
/// that read are at hand, hence the cell; nobody holds it longer than for one value.
#[derive(Debug, Default)]
pub struct StreamState(RefCell<Option<Box<StreamNotes>>>);

impl StreamState {
    /// Writes.
    pub fn write(&self, write: impl FnOnce(&mut StreamNotes)) {
        if let Ok(mut notes) = self.0.try_borrow_mut() {
            write(notes.get_or_insert_default());
        }
    }

    /// What is there, to be read.
    pub fn read(&self) -> Ref<'_, Option<Box<StreamNotes>>> {
        self.0.borrow()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self.0.get_mut() = None;
    }
}

/// What may be read of a stream's and its connection's state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written<'a> {
    /// Dynamic metadata: of the stream, or of the connection where that is what is looked at.
    pub metadata: Option<&'a Metadata>,
    /// Filter state of the stream.
    pub stream: Option<&'a FilterState>,
    /// Filter state of its connection.
    pub connection: Option<&'a FilterState>,
}

impl<'a> Written<'a> {
    /// The state of a stream on a connection.
    pub fn of(notes: Option<&'a StreamNotes>, connection: Option<&'a FilterState>) -> Self {
        Self {
            metadata: notes.map(|notes| &notes.metadata),
            stream: notes.map(|notes| &notes.filter_state),
            connection,
        }
    }

    /// An object of the filter state: the stream's own, else the connection's.
    pub fn object(&self, key: &str) -> Option<&'a StateObject> {
        self.stream.and_then(|state| state.get(key)).or_else(|| self.connection?.get(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StateForm;

    #[test]
    fn the_stream_comes_before_its_connection() {
        let object = |text: &str| StateObject::new(StateForm::Text, text).expect("a text");
        let mut state = StreamState::default();
        assert!(state.read().is_none());
        let mut connection = FilterState::default();
        connection.set("a", object("of the connection"), true);
        connection.set("b", object("of the connection"), true);
        state.write(|notes| notes.filter_state.set("a", object("of the stream"), true));
        let read = state.read();
        let written = Written::of(read.as_deref(), Some(&connection));
        let text = |key| written.object(key).map(StateObject::text);
        assert_eq!(text("a"), Some("of the stream"));
        assert_eq!((text("b"), text("c")), (Some("of the connection"), None));
        drop(read);
        state.clear();
        assert!(state.read().is_none());
    }
}
