"""For tests: fakes of the ports, the contracts every implementation must pass, and faults as inputs."""
