DROP TABLE hapax_record;
DROP SEQUENCE hapax_fence;
DROP TABLE hapax_recipe;
DROP TABLE hapax_meta;
