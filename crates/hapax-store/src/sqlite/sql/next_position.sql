SELECT min(position) FROM hapax_record WHERE position > ?1
