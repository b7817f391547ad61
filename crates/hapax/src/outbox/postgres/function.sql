-- Enqueues an effect in the caller's transaction: it is delivered if that commits. The key is the effect's identity:
-- enqueued twice, it is delivered once. Whoever may execute it needs no rights on the table.
CREATE OR REPLACE FUNCTION hapax_enqueue(
    effect text,
    key text,
    payload bytea,
    content_type text DEFAULT 'application/json',
    aggregate text DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
AS $hapax$
#variable_conflict use_variable
BEGIN
    IF effect IS NULL OR key IS NULL OR payload IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'HX003', MESSAGE = 'hapax: an effect needs a name, a key and a payload';
    END IF;
    IF octet_length(effect) NOT BETWEEN 1 AND 255 OR effect ~ '[\x01-\x1f\x7f]' THEN
        RAISE EXCEPTION USING ERRCODE = 'HX003',
            MESSAGE = 'hapax: the name of an effect has 1 to 255 bytes and no control character';
    END IF;
    IF octet_length(key) NOT BETWEEN 1 AND 255 OR key ~ '[\x01-\x1f\x7f]' THEN
        RAISE EXCEPTION USING ERRCODE = 'HX003',
            MESSAGE = 'hapax: the key of an effect has 1 to 255 bytes and no control character: give the identity of the '
                'row that it is about';
    END IF;
    IF octet_length(aggregate) NOT BETWEEN 1 AND 255 OR aggregate ~ '[\x01-\x1f\x7f]' THEN
        RAISE EXCEPTION USING ERRCODE = 'HX003',
            MESSAGE = 'hapax: the aggregate of an effect has 1 to 255 bytes and no control character, or is NULL';
    END IF;
    IF content_type !~ '^[\x20-\x7e]{1,255}$' THEN
        RAISE EXCEPTION USING ERRCODE = 'HX003',
            MESSAGE = 'hapax: a content type has 1 to 255 printable ASCII characters, such as application/json';
    END IF;
    IF octet_length(payload) > 1048576 THEN
        RAISE EXCEPTION USING ERRCODE = 'HX003', MESSAGE = format(
            'hapax: the payload of an effect has 1048576 bytes at most, this one has %s: store it elsewhere and send '
            'its address', octet_length(payload));
    END IF;
    INSERT INTO hapax_outbox (effect, key, payload, content_type, aggregate)
    VALUES (effect, key, payload, coalesce(content_type, 'application/json'), aggregate);
END
$hapax$
