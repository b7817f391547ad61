SELECT count(*) FROM hapax_namespace
