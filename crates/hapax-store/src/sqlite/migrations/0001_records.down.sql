DROP TABLE hapax_record;
DROP TABLE hapax_namespace;
DROP TABLE hapax_recipe;
DROP TABLE hapax_meta;
