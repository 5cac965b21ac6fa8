"""The durable engine: jobs that outlive the process that began them, on SQLite or Postgres.

`database` opens the store, `engine` runs jobs on DBOS, `queueing` leaves them to other processes, `executors` tells the
living from the dead, and `takeover` gives the jobs of the dead to the living. What a job does is its owner's business
(`deskterior.makeover`).
"""
