use super::*;

fn long(count: usize) -> String {
    "k".repeat(count)
}

#[test]
fn every_good_form_names_its_key() {
    let (bare_255, quoted_255) = (long(255), format!("\"{}\"", long(255)));
    for (field, key) in [
        ("abc", "abc"),
        ("\"abc\"", "abc"),
        ("  abc\t", "abc"),
        ("\"a\\\"b\"", "a\"b"),
        ("\"a\\\\b\"", "a\\b"),
        ("a\\b", "a\\b"),
        ("\"a,b;c d\"", "a,b;c d"),
        ("auto_0b1c:/{}'", "auto_0b1c:/{}'"),
        ("\"abc\";v=1;w", "abc"),
        (&bare_255, &bare_255),
        (&quoted_255, &bare_255),
    ] {
        assert_eq!(
            parse(field.as_bytes()).map(|key| key.to_string()),
            Ok(key.to_owned()),
            "{field}"
        );
    }
}

#[test]
fn every_bad_form_is_refused_by_its_rule() {
    for (field, error) in [
        (&b""[..], KeyError::Empty),
        (b"   ", KeyError::Empty),
        (b"\"\"", KeyError::Empty),
        (long(256).as_bytes(), KeyError::TooLong),
        (format!("\"{}\"", long(256)).as_bytes(), KeyError::TooLong),
        (long(64 << 10).as_bytes(), KeyError::TooLong),
        (b"a\x01b", KeyError::NotAscii),
        (b"a\0b", KeyError::NotAscii),
        (b"a b", KeyError::NotAscii),
        (b"a\tb", KeyError::NotAscii),
        (b"a\x7fb", KeyError::NotAscii),
        ("ключ".as_bytes(), KeyError::NotAscii),
        ("\"ключ\"".as_bytes(), KeyError::NotAscii),
        (b"\"a\tb\"", KeyError::NotAscii),
        (b"\xff", KeyError::NotAscii),
        (b"a,b", KeyError::List),
        (b"a,a", KeyError::List),
        (b"\"a\",\"b\"", KeyError::List),
        (b"\"a\", b", KeyError::List),
        (b"a;v=1", KeyError::BareParameters),
        (b"a\"b", KeyError::StrayQuote),
        (b"\"a", KeyError::Quoting),
        (b"\"a\"b", KeyError::Quoting),
        (b"\"a\\b\"", KeyError::Quoting),
        (b"\"a\";=", KeyError::Quoting),
    ] {
        assert_eq!(
            parse(field),
            Err(error),
            "{:?}",
            String::from_utf8_lossy(&field[..field.len().min(20)])
        );
    }
}

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

#[test]
fn a_key_sent_twice_is_one_key_only_if_it_is_the_same() {
    let of = |a, b| key(&headers(&[("idempotency-key", a), ("idempotency-key", b)]));
    assert_eq!(of("abc", "\"abc\""), Ok(Some(Key::new("abc").unwrap())));
    assert_eq!(of("abc", "abd"), Err(KeyError::Different));
    assert_eq!(of("abc", ""), Err(KeyError::Empty));
    assert_eq!(key(&headers(&[("x-key", "abc")])), Ok(None));
}

#[test]
fn connection_must_not_name_a_protected_field() {
    let scope = HeaderName::from_static("x-tenant");
    let check = |value| check_head(&headers(&[("connection", value)]), Some(&scope));
    for value in ["close", "keep-alive, Upgrade", "x-other", "hapax"] {
        assert_eq!(check(value), Ok(()), "{value}");
    }
    for (value, name) in [
        ("Idempotency-Key", "idempotency-key"),
        ("close,  authorization", "authorization"),
        ("X-TENANT", "x-tenant"),
        ("content-type", "content-type"),
        ("Content-Length", "content-length"),
        ("content-encoding", "content-encoding"),
        ("host", "host"),
        ("cookie", "cookie"),
        ("close,Hapax-Fence", "hapax-fence"),
    ] {
        assert_eq!(check(value), Err(KeyError::ProtectedField(name.into())), "{value}");
    }
    let fields = headers(&[("connection", "close"), ("connection", "host")]);
    assert_eq!(check_head(&fields, None), Err(KeyError::ProtectedField("host".into())));
    assert_eq!(check_head(&headers(&[("connection", "x-tenant")]), None), Ok(()));
}

#[test]
fn a_key_announced_as_a_trailer_is_refused() {
    assert_eq!(
        check_head(&headers(&[("trailer", "x, Idempotency-Key")]), None),
        Err(KeyError::Trailer)
    );
    assert_eq!(check_head(&headers(&[("trailer", "x-checksum")]), None), Ok(()));
}

#[test]
fn every_error_says_what_to_do() {
    for error in [
        KeyError::Empty,
        KeyError::TooLong,
        KeyError::NotAscii,
        KeyError::List,
        KeyError::Quoting,
        KeyError::BareParameters,
        KeyError::StrayQuote,
        KeyError::Different,
        KeyError::Trailer,
        KeyError::Underscore,
        KeyError::ProtectedField("host".into()),
    ] {
        assert!(error.to_string().contains(". "), "{error}");
    }
}
