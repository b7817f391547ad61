SELECT recipe FROM hapax_recipe WHERE text = ?1
