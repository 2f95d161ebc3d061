"""What learns, scores and counts. No web, no survey folder, no Panel: arrays in, arrays and run folders out."""
