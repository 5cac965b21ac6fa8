"""Stand-ins for OpenAI, Naver Shopping and a backend's callback, over real HTTP and with faults on demand.

For `make demo`, the tests and the load runs, so that the real clients are what runs. It shares no code with the
service: what it refuses and how it answers is written from the providers' own documents. Production never uses it.
"""
