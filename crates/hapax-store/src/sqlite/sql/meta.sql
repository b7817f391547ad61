SELECT last_fence, last_now FROM hapax_meta WHERE one = 1
