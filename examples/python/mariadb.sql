-- Nothing here is unique but the id: that a payment happens once is the receipt's doing.
CREATE TABLE payments (
    id bigint AUTO_INCREMENT PRIMARY KEY,
    reference varchar(255) NOT NULL,
    amount_cents bigint NOT NULL CHECK (amount_cents > 0),
    at timestamp(3) NOT NULL DEFAULT current_timestamp(3)
) ENGINE = InnoDB;
