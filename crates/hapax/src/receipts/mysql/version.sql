CREATE TABLE hapax_receipt_version (
    version INT NOT NULL PRIMARY KEY,
    at DATETIME(3) NOT NULL
) ENGINE = InnoDB
