"""Dataset checks before training: facts about every file, and the faults found in them.

Read ``scan`` first (all files of a dataset, with the facts about each), then ``file_facts`` and ``mask_pixels`` (facts
about one pair of files), ``label_values`` (all mask values compared with the label table), ``perceptual_hash`` and
``duplicates`` (images shared by two splits). ``finding`` is the form of a result; ``faults.table`` lists every fault;
``label_table`` proposes a ``labels.yaml`` that fixes what a label table can fix.
"""
