//! Every way a block can be wrong, and what is odd but right.

use alloc::vec;

use super::*;

/// The verdict on a block for a decoder that has two entries: `b: 2` (62) and `a: 1` (63).
fn verdict(block: &str) -> Result<Fields, HpackError> {
    let mut decoder = Decoder::new(4096);
    decoded(&mut decoder, &hex("4001 6101 31 4001 6201 32")).expect("two fields");
    decoded(&mut decoder, &hex(block))
}

#[test]
fn every_error_has_its_block() {
    use HpackError::*;
    for (block, error) in [
        ("80", BadIndex),
        ("c0", BadIndex),
        ("ff 0000", BadIndex),
        ("ff 80ff ffff 0f", BadIndex),
        ("7f 0101 31", BadIndex),
        ("0f 3101 31", BadIndex),
        ("ff ffff ffff ff0f", IntegerOverflow),
        ("40 ff80 8080 8080 00", IntegerOverflow),
        ("ff", Truncated),
        ("ff 80", Truncated),
        ("40", Truncated),
        ("4001", Truncated),
        ("4001 61", Truncated),
        ("4001 6105 3132", Truncated),
        ("41", Truncated),
        ("417f", Truncated),
        ("417f 80ff ffff 0f61", Truncated),
        ("82 20", SizeUpdateLate),
        ("be 3f e11f", SizeUpdateLate),
        ("3f e21f", SizeUpdateTooLarge),
        ("3f e0ff ffff 0f", SizeUpdateTooLarge),
        ("3f e1ff ffff ff7f", IntegerOverflow),
        ("3f e1", Truncated),
        ("0484 ffff ffff", HuffmanEos),
        ("0484 ffff fffc", HuffmanEos),
        // Padding of 8 ones; a code that is cut off; padding of zeros.
        ("0482 1fff", HuffmanPadding),
        ("0483 ffff fe", HuffmanPadding),
        ("0481 18", HuffmanPadding),
        ("0481 ff", HuffmanPadding),
    ] {
        assert_eq!(verdict(block), Err(error), "{block}");
        assert!(!error.reason().is_empty());
    }
}

#[test]
fn odd_blocks_are_right() {
    for (block, wanted) in [
        ("", &[][..]),
        ("20", &[]),
        ("20 3f e11f 20", &[]),
        ("be bf", &[("b", "2"), ("a", "1")]),
        ("0480", &[(":path", "")]),
        ("0481 1f", &[(":path", "a")]),
        ("0f30 0131", &[("a", "1")]),
        ("0000 00", &[("", "")]),
    ] {
        assert_eq!(verdict(block), Ok(fields(wanted)), "{block}");
    }
    assert_eq!(verdict("20 be"), Err(HpackError::BadIndex), "size 0 evicts everything");
}

#[test]
fn a_smaller_table_has_to_be_confirmed() {
    let mut decoder = Decoder::new(4096);
    assert!(decoded(&mut decoder, &hex("4001 6101 31")).is_ok());
    decoder.set_table_size(34);
    let mut other = decoder.clone();
    assert_eq!(decoded(&mut other, &[0x82]), Err(HpackError::SizeUpdateMissing));
    assert_eq!(decoded(&mut other.clone(), &[]), Ok(fields(&[])));
    assert_eq!(decoded(&mut decoder.clone(), &hex("3f04 82")), Err(HpackError::SizeUpdateTooLarge));
    assert_eq!(decoded(&mut decoder, &hex("3f03 be")), Ok(fields(&[("a", "1")])));
    assert_eq!(decoder.table_size(), (34, 34));
    decoder.set_table_size(0);
    assert_eq!(decoded(&mut decoder, &hex("20 4001 6101 31")), Ok(fields(&[("a", "1")])));
    assert_eq!(decoder.table_size(), (0, 0));
}

#[test]
fn until_settings_are_acknowledged_the_default_table_is_used() {
    let mut decoder = Decoder::new(0);
    assert!(decoded(&mut decoder, &hex("4001 6101 31")).is_ok());
    assert_eq!(decoded(&mut decoder, &[0xbe]), Ok(fields(&[("a", "1")])));
    assert_eq!(Decoder::new(100_000).table_size(), (0, 4096));
    assert_eq!(decoded(&mut Decoder::new(100_000), &hex("3f81 8d06")), Ok(fields(&[])), "100,000");
}

#[test]
fn a_field_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::new(4096);
    decoded(&mut decoder, &hex("4001 6101 31 4001 6201 32")).expect("two fields");
    // The name of the older one; the value has 4,064 octets, one too many.
    let mut long = hex("7f00 7fe1 1e");
    long.extend(vec![b'v'; 4064]);
    assert_eq!(decoded(&mut decoder, &long).map(|fields| fields[0].1.len()), Ok(4064));
    assert_eq!(decoder.table_size().0, 0);
    assert_eq!(decoded(&mut decoder, &[0xbe]), Err(HpackError::BadIndex));
}

#[test]
fn a_name_survives_its_own_eviction() {
    let mut decoder = Decoder::new(4096);
    let block = hex("3f05 4001 6103 313233 7e03 343536 be");
    assert_eq!(decoded(&mut decoder, &block), Ok(fields(&[("a", "123"), ("a", "456"), ("a", "456")])));
    assert_eq!(decoder.table_size(), (36, 36));
}

#[test]
fn validity_is_kept_with_the_entry() {
    use Validity::{BadName, BadValue, Ok as Fine};
    let mut decoder = Decoder::new(4096);
    let mut seen = |block: &str| {
        let mut seen = Vec::new();
        let verdict = decoder.decode(&hex(block), &mut |field| {
            seen.push(field.valid);
            true
        });
        assert_eq!(verdict, Ok(()), "{block}");
        seen
    };
    // `A: 1`, `a: <SP>1`, `a: <CR>1`, `a: 1<HTAB>2`; then the name of `A` again.
    let block = "4001 4101 31 4001 6102 2031 4001 6102 0d31 4001 6103 310932 7f02 0132";
    assert_eq!(seen(block), [BadName, BadValue, BadValue, Fine, BadName]);
    assert_eq!(seen("c2 c1 c0 bf be"), [BadName, BadValue, BadValue, Fine, BadName]);
    // Good values for the name of a field whose value was bad; pseudo fields, too.
    assert_eq!(seen("7f01 0132 44 0109 0400"), [Fine, BadValue, Fine]);
    assert_eq!(seen("0001 3a00 0002 3a61 00 0002 3a41 00"), [BadName, Fine, BadName]);
}

#[test]
fn a_callback_that_has_seen_enough_keeps_the_table_in_step() {
    let mut decoder = Decoder::new(4096);
    let mut count = 0;
    let block = hex("4001 6101 31 4001 6201 32 82 be");
    let verdict = decoder.decode(&block, &mut |_| {
        count += 1;
        count < 2
    });
    assert_eq!((verdict, count), (Ok(()), 2));
    assert_eq!(decoded(&mut decoder, &hex("bebf")), Ok(fields(&[("b", "2"), ("a", "1")])));
}

#[test]
fn never_indexed_fields_say_so() {
    let mut sensitive = Vec::new();
    let block = hex("1001 6101 31 0001 6101 31 4001 6101 31 be");
    let verdict = Decoder::new(4096).decode(&block, &mut |field| {
        sensitive.push(field.sensitive);
        true
    });
    assert_eq!((verdict, sensitive), (Ok(()), vec![true, false, false, false]));
}
