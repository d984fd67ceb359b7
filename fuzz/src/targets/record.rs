//! Records of the control protocol: what is read writes back as the same bytes, but for fields that this version skips.

use minicbor::data::Type;
use minicbor::decode::{Decoder, Error};
use secure_rdma::control::Record;

pub(super) fn run(bytes: &[u8]) {
    match Record::decode(bytes) {
        Ok(record) => check(&record, bytes),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Checks that `record` is what `bytes` say.
pub(super) fn check(record: &Record, bytes: &[u8]) {
    let written = record.encode().expect("what was read can be written");
    assert_eq!(Record::decode(&written).as_ref(), Ok(record));
    if written[..] == *bytes {
        return;
    }
    assert!(written.len() < bytes.len(), "only fields that this version skips may be missing");
    let (mut all, mut known) = (Decoder::new(bytes), Decoder::new(&written));
    assert_eq!((all.array().ok(), known.array().ok()), (Some(Some(2)), Some(Some(2))));
    assert_eq!(all.u64().ok(), known.u64().ok(), "the record's number");
    is_part(&mut known, &mut all).expect("both are what they were read as");
}

/// Checks that the item at `known` is the one at `all`, where maps may have further keys behind their known ones.
fn is_part<'b>(known: &mut Decoder<'b>, all: &mut Decoder<'b>) -> Result<(), Error> {
    if known.datatype()? != Type::Map {
        let (here, there) = (known.position(), all.position());
        known.skip()?;
        all.skip()?;
        assert_eq!(known.input()[here..known.position()], all.input()[there..all.position()]);
        return Ok(());
    }
    let (some, more) = (known.map()?.unwrap_or(0), all.map()?.unwrap_or(0));
    for _ in 0..some {
        assert_eq!(known.u64()?, all.u64()?, "a field that this version knows");
        is_part(known, all)?;
    }
    for _ in some..more {
        all.skip()?;
        all.skip()?;
    }
    Ok(())
}
