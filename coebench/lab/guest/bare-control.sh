# Payload of the control host of a bay without a COE: it is there, as in every bay, and has nothing to do.
sleep infinity
