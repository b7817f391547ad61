SELECT text FROM hapax_recipe WHERE id = $1::bigint
