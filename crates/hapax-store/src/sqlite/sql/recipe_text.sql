SELECT text FROM hapax_recipe WHERE recipe = ?1
