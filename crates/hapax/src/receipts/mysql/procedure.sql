-- To be called once, as the last statement of the transaction of the business writes. If it fails, it has rolled that
-- transaction back. Whoever may execute it needs no rights on the table.
CREATE PROCEDURE hapax_receipt(
    IN p_operation LONGTEXT,
    IN p_fence BIGINT,
    IN p_status INT,
    IN p_body LONGBLOB,
    IN p_content_type LONGTEXT
)
MODIFIES SQL DATA
SQL SECURITY DEFINER
BEGIN
    DECLARE v_operation CHAR(32) CHARACTER SET ascii COLLATE ascii_bin;
    DECLARE v_there BOOLEAN DEFAULT FALSE;
    DECLARE v_fence BIGINT;
    DECLARE v_sealed BOOLEAN;
    DECLARE v_why VARCHAR(128) CHARACTER SET utf8mb4;
    DECLARE CONTINUE HANDLER FOR 1062 SET v_there = TRUE;
    -- The server does not doom a transaction whose statement fails: without this, a caller that goes on would commit.
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        ROLLBACK;
        RESIGNAL;
    END;

    IF p_operation IS NULL OR p_fence IS NULL THEN
        SET v_why = 'hapax: no operation or no fence: give the headers Hapax-Operation and Hapax-Fence';
    ELSEIF CHAR_LENGTH(p_operation) <> 32 OR HEX(p_operation) NOT REGEXP '^(3[0-9]|6[1-6]){32}$' THEN
        SET v_why = CONCAT('hapax: ''', LEFT(p_operation, 40),
            ''' is no operation: give the header Hapax-Operation (32 lower-case hex digits)');
    ELSEIF p_fence <= 0 THEN
        SET v_why = CONCAT('hapax: ', p_fence, ' is no fence: give the header Hapax-Fence as it came');
    ELSEIF p_status NOT BETWEEN 200 AND 599 THEN
        SET v_why = CONCAT('hapax: ', p_status, ' is no status of an answer: give one from 200 to 599, or NULL');
    ELSEIF p_body IS NOT NULL AND p_status IS NULL THEN
        SET v_why = 'hapax: a body needs its status';
    ELSEIF CHAR_LENGTH(p_content_type) NOT BETWEEN 1 AND 255
        OR HEX(p_content_type) NOT REGEXP '^([2-6][0-9A-F]|7[0-9A-E])*$' THEN
        SET v_why = 'hapax: a content type has 1 to 255 printable ASCII characters, such as application/json';
    END IF;
    IF v_why IS NOT NULL THEN
        SIGNAL SQLSTATE 'HX003' SET MESSAGE_TEXT = v_why;
    END IF;

    SET v_operation = p_operation;
    -- Waits for another transaction that writes the same receipt, or seals the operation.
    INSERT INTO hapax_receipt (operation, fence, status, body, content_type, sealed, at)
    VALUES (v_operation, p_fence, p_status, p_body, p_content_type, FALSE, UTC_TIMESTAMP(3));
    IF v_there THEN
        SELECT fence, sealed INTO v_fence, v_sealed FROM hapax_receipt WHERE operation = v_operation FOR UPDATE;
        IF v_sealed AND v_fence < p_fence THEN
            UPDATE hapax_receipt
            SET fence = p_fence, status = p_status, body = p_body, content_type = p_content_type, sealed = FALSE,
                at = UTC_TIMESTAMP(3)
            WHERE operation = v_operation;
        ELSEIF v_sealed THEN
            SET v_why = CONCAT('hapax: ', v_operation, ' is sealed up to fence ', v_fence,
                '; this attempt (fence ', p_fence, ') is stale');
            SIGNAL SQLSTATE 'HX002' SET MESSAGE_TEXT = v_why;
        ELSE
            SET v_why = CONCAT('hapax: receipt of ', v_operation, ' was committed by fence ',
                COALESCE(v_fence, 'unknown'), ' already');
            SIGNAL SQLSTATE 'HX001' SET MESSAGE_TEXT = v_why;
        END IF;
    END IF;
END
