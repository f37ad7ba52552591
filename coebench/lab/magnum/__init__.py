"""The lab's own Magnum: real Keystone, Glance, RabbitMQ, MariaDB, magnum-api and magnum-conductor on loopback.

`plane` starts and ends it, `plugin` is the driver that its conductor loads, and `keeper` builds what that driver is asked
for: bays of real engines, by the lab's ordinary means.
"""
