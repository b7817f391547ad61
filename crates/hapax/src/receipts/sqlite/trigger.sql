-- Guards INSERT INTO hapax_receipt (operation, fence, status, body, content_type), to be done once in the transaction
-- of the business writes, best as its last statement. If it fails, that transaction is rolled back.
-- The messages name no numbers, since only SQLite from 3.47 on could put them there.
CREATE TRIGGER hapax_receipt_guard BEFORE INSERT ON hapax_receipt WHEN NEW.sealed IS NOT 1
BEGIN
    SELECT RAISE(ROLLBACK, 'hapax: no operation or no fence: give the headers Hapax-Operation and Hapax-Fence')
    WHERE NEW.operation IS NULL OR NEW.fence IS NULL;
    SELECT RAISE(ROLLBACK, 'hapax: this is no operation: give the header Hapax-Operation as it came (32 lower-case hexadecimal digits)')
    WHERE typeof(NEW.operation) <> 'text' OR length(NEW.operation) <> 32
        OR length(CAST(NEW.operation AS BLOB)) <> 32 OR NEW.operation GLOB '*[^0-9a-f]*';
    SELECT RAISE(ROLLBACK, 'hapax: this is no fence: give the header Hapax-Fence as it came')
    WHERE typeof(NEW.fence) <> 'integer' OR NEW.fence <= 0;
    SELECT RAISE(ROLLBACK, 'hapax: this is no status of an answer: give one from 200 to 599, or NULL')
    WHERE NEW.status IS NOT NULL AND (typeof(NEW.status) <> 'integer' OR NEW.status NOT BETWEEN 200 AND 599);
    SELECT RAISE(ROLLBACK, 'hapax: a body needs its status')
    WHERE NEW.body IS NOT NULL AND NEW.status IS NULL;
    SELECT RAISE(ROLLBACK, 'hapax: a content type has 1 to 255 printable ASCII characters, such as application/json')
    WHERE NEW.content_type IS NOT NULL
        AND (length(NEW.content_type) NOT BETWEEN 1 AND 255 OR NEW.content_type GLOB '*[^ -~]*'
            OR length(CAST(NEW.content_type AS BLOB)) <> length(NEW.content_type));

    SELECT RAISE(ROLLBACK, 'hapax: the receipt of this operation was committed already (hapax_receipt names the fence)')
    FROM hapax_receipt WHERE operation = NEW.operation AND NOT sealed;
    SELECT RAISE(ROLLBACK, 'hapax: this operation is sealed (hapax_receipt names up to which fence); this attempt is stale')
    FROM hapax_receipt WHERE operation = NEW.operation AND sealed AND fence >= NEW.fence;
    DELETE FROM hapax_receipt WHERE operation = NEW.operation AND sealed AND fence < NEW.fence;
END
