"""The local provisioner: makes and removes folders of this machine as volumes for claims."""
