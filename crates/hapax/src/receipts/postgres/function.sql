-- To be called once in the transaction of the business writes, best as its last statement. If it fails, so does the
-- transaction. Whoever may execute it needs no rights on the table.
CREATE OR REPLACE FUNCTION hapax_receipt(
    operation text,
    fence bigint,
    status integer DEFAULT NULL,
    body bytea DEFAULT NULL,
    content_type text DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
AS $hapax$
#variable_conflict use_variable
DECLARE
    there_fence bigint;
    there_sealed boolean;
BEGIN
    IF operation IS NULL OR fence IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'HX003',
            MESSAGE = 'hapax: no operation or no fence: give the headers Hapax-Operation and Hapax-Fence',
            HINT = 'A request that did not come through hapax has neither.';
    END IF;
    IF operation !~ '^[0-9a-f]{32}$' THEN
        RAISE EXCEPTION USING ERRCODE = 'HX003', MESSAGE = format(
            'hapax: %L is no operation: give the header Hapax-Operation as it came (32 lower-case hexadecimal digits)',
            left(operation, 80));
    END IF;
    IF fence <= 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'HX003',
            MESSAGE = format('hapax: %s is no fence: give the header Hapax-Fence as it came', fence);
    END IF;
    IF status NOT BETWEEN 200 AND 599 THEN
        RAISE EXCEPTION USING ERRCODE = 'HX003',
            MESSAGE = format('hapax: %s is no status of an answer: give one from 200 to 599, or NULL', status);
    END IF;
    IF body IS NOT NULL AND status IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'HX003', MESSAGE = 'hapax: a body needs its status';
    END IF;
    IF content_type !~ '^[\x20-\x7e]{1,255}$' THEN
        RAISE EXCEPTION USING ERRCODE = 'HX003',
            MESSAGE = 'hapax: a content type has 1 to 255 printable ASCII characters, such as application/json';
    END IF;

    -- Waits for another transaction that writes the same receipt, or seals the operation.
    INSERT INTO hapax_receipt AS receipt (operation, fence, status, body, content_type, sealed, at)
    VALUES (operation, fence, status, body, content_type, false, now())
    ON CONFLICT ON CONSTRAINT hapax_receipt_pkey DO UPDATE
    SET fence = EXCLUDED.fence, status = EXCLUDED.status, body = EXCLUDED.body,
        content_type = EXCLUDED.content_type, sealed = false, at = EXCLUDED.at
    WHERE receipt.sealed AND receipt.fence < EXCLUDED.fence;
    IF FOUND THEN
        RETURN;
    END IF;

    -- The row is locked, and so the one that was in the way.
    SELECT receipt.fence, receipt.sealed INTO there_fence, there_sealed
    FROM hapax_receipt AS receipt WHERE receipt.operation = operation;
    IF there_sealed THEN
        RAISE EXCEPTION USING ERRCODE = 'HX002', MESSAGE = format(
            'hapax: %s is sealed up to fence %s; this attempt (fence %s) is stale', operation, there_fence, fence);
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'HX001',
        MESSAGE = format('hapax: receipt of %s was committed by fence %s already', operation, there_fence);
END
$hapax$
