"""A RabbitMQ quorum queue between collectors and the database: the publisher of a collector, and the worker."""
