SELECT max(fence) AS fence FROM hapax_receipt
