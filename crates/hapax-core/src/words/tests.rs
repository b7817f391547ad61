use super::*;

fn id(scope: &str, name: &str, key: &str) -> OperationId {
    Operation::new(
        Scope::new(scope).unwrap(),
        Name::new(name).unwrap(),
        Key::new(key).unwrap(),
    )
    .id()
}

#[test]
fn words_are_bounded() {
    assert_eq!(Key::new(""), Err(WordError::Empty { word: "key", max: 255 }));
    assert_eq!(Key::new("k".repeat(255)).unwrap().as_str().len(), 255);
    assert_eq!(
        Key::new("k".repeat(256)),
        Err(WordError::TooLong {
            word: "key",
            len: 256,
            max: 255
        })
    );
    assert_eq!(Scope::new("a\0b"), Err(WordError::Control { word: "scope", at: 1 }));
    assert_eq!(Name::new("ü\u{85}"), Err(WordError::Control { word: "name", at: 2 }));
}

#[test]
fn identity_separates_every_part() {
    let base = id("a", "b", "c");
    assert_eq!(base, id("a", "b", "c"));
    for other in [
        id("x", "b", "c"),
        id("a", "x", "c"),
        id("a", "b", "x"),
        id("ab", "c", "c"),
        id("a", "bc", "c"),
    ] {
        assert_ne!(base, other);
    }
    // Moving a byte across a border is another operation.
    assert_ne!(id("ab", "c", "d"), id("a", "bc", "d"));
}

#[test]
fn display_shows_the_value_and_nothing_else() {
    let bytes = [0x0a, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff];
    assert_eq!(
        OperationId::from_bytes(bytes).to_string(),
        "0a0102030405060708090a0b0c0d0eff"
    );
    assert_eq!(
        format!("{:?}", AttemptId::from_bytes(bytes)),
        "AttemptId(0a0102030405060708090a0b0c0d0eff)"
    );
    assert_eq!(OperationId::from_bytes(bytes).as_bytes(), &bytes);
    assert_eq!(AttemptId::from_bytes(bytes).as_bytes(), &bytes);
    assert_eq!((Fence::new(7).to_string().as_str(), Fence::new(7).get()), ("7", 7));
    assert_eq!(Key::new("k").unwrap().to_string(), "k");
    assert_eq!(format!("{:?}", Key::new("k").unwrap()), "Key(\"k\")");
}

#[test]
fn operation_gives_its_parts_back() {
    let operation = Operation::new(
        Scope::new("s").unwrap(),
        Name::new("n").unwrap(),
        Key::new("k").unwrap(),
    );
    assert_eq!(
        (
            operation.scope().as_str(),
            operation.name().as_str(),
            operation.key().as_str()
        ),
        ("s", "n", "k")
    );
}
