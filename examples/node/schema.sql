-- Nothing here is unique but the id: that a payment happens once is the receipt's doing.
CREATE TABLE payments (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reference text NOT NULL,
    amount_cents bigint NOT NULL CHECK (amount_cents > 0),
    at timestamptz NOT NULL DEFAULT now()
);
